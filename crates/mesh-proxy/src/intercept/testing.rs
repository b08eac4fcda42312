//! First bytes for tests.

/// The body and header of a `ClientHello` message with these extensions.
pub(crate) fn hello(server_name: Option<&str>, protocols: &[&str]) -> Vec<u8> {
    let mut extensions = Vec::new();
    // supported_versions, which nobody reads here
    extensions.extend([0, 43, 0, 3, 2, 3, 4]);
    if let Some(name) = server_name {
        let entry = [&[0][..], &vector2(name.as_bytes())].concat();
        extensions.extend([0, 0]);
        extensions.extend(vector2(&vector2(&entry)));
    }
    if !protocols.is_empty() {
        let names: Vec<u8> = protocols
            .iter()
            .flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat())
            .collect();
        extensions.extend([0, 16]);
        extensions.extend(vector2(&vector2(&names)));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01]);
    body.extend([1, 0]);
    body.extend(vector2(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// A handshake message in records of so many bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|chunk| [&[22, 3, 1][..], &vector2(chunk)].concat())
        .collect()
}

fn vector2(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}
