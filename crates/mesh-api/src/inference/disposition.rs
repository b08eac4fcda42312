//! The headers of a multipart part, and parameters of media types.

/// What the headers of a part say.
pub(super) struct Part {
    /// Whether it is the field `model`; a file of that name is not.
    pub(super) is_field_model: bool,
}

impl Part {
    /// Reads the headers of a part, with their line ends and the empty line.
    pub(super) fn parse(headers: &[u8]) -> Result<Self, &'static str> {
        let mut disposition = None;
        let mut type_and_encoding = Vec::new();
        for line in lines(headers)? {
            let colon = line
                .iter()
                .position(|&byte| byte == b':')
                .ok_or("a multipart header has no colon")?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
                return Err("a multipart header has a malformed name, or is folded");
            }
            if name.eq_ignore_ascii_case(b"content-disposition") {
                if disposition.replace(value).is_some() {
                    return Err("a multipart part has two dispositions");
                }
            } else if name.eq_ignore_ascii_case(b"content-type")
                || name.eq_ignore_ascii_case(b"content-transfer-encoding")
            {
                type_and_encoding.push((name, value));
            }
        }
        let is_field_model = match disposition {
            Some(value) => is_field_model(value)?,
            None => false,
        };
        if is_field_model
            && !type_and_encoding
                .iter()
                .all(|(name, value)| is_plain(name, value))
        {
            return Err("the field model is encoded, or in another character set than UTF-8");
        }
        Ok(Self { is_field_model })
    }
}

/// The lines of a block of headers; line ends other than CR LF are refused.
fn lines(headers: &[u8]) -> Result<impl Iterator<Item = &[u8]>, &'static str> {
    let mut before = 0;
    for (at, &byte) in headers.iter().enumerate() {
        if (byte == b'\n') != (before == b'\r') {
            return Err("a multipart header has a bare line end");
        }
        if byte == 0 || (at + 1 == headers.len() && byte != b'\n') {
            return Err("a multipart header holds a control character");
        }
        before = byte;
    }
    Ok(headers
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .filter(|line| !line.is_empty()))
}

/// Whether a disposition names the field `model`.
fn is_field_model(value: &[u8]) -> Result<bool, &'static str> {
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    if !value[..end].trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return Err("a multipart part is no form data");
    }
    let parameters = &value[end..];
    if media_parameter(parameters, b"name*")?.is_some() {
        return Err("a multipart part has an encoded name");
    }
    let name = media_parameter(parameters, b"name")?.ok_or("a multipart part has no name")?;
    let file = media_parameter(parameters, b"filename")?;
    let encoded_file = media_parameter(parameters, b"filename*")?;
    if name != b"model" {
        return Ok(false);
    }
    match (file.as_deref(), encoded_file) {
        (None, None) => Ok(true),
        // Some parsers take an empty or encoded file name for none.
        (Some(b"") | None, _) => Err("the field model has an empty or encoded file name"),
        (Some(_), _) => Ok(false),
    }
}

/// Whether a header leaves a field's bytes as they are.
fn is_plain(name: &[u8], value: &[u8]) -> bool {
    if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
        return [&b"binary"[..], b"8bit", b"7bit"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word));
    }
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    match media_parameter(&value[end..], b"charset") {
        Ok(None) => true,
        Ok(Some(set)) => set.eq_ignore_ascii_case(b"utf-8") || set.eq_ignore_ascii_case(b"us-ascii"),
        Err(_) => false,
    }
}

/// The value of a parameter in `; a=b; c="d"`. Refused: the parameter twice, and quoted values with a backslash, which
/// parsers read differently.
pub(super) fn media_parameter(parameters: &[u8], wanted: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut found = None;
    let mut rest = parameters.trim_ascii();
    while let Some(after) = rest.strip_prefix(b";") {
        rest = after.trim_ascii_start();
        if rest.is_empty() || rest.starts_with(b";") {
            continue;
        }
        let equals = rest
            .iter()
            .position(|&byte| matches!(byte, b'=' | b';'))
            .unwrap_or(rest.len());
        let name = rest[..equals].trim_ascii();
        let value = rest[equals..]
            .strip_prefix(b"=")
            .ok_or("a parameter has no value")?
            .trim_ascii_start();
        let (value, after) = match value.strip_prefix(b"\"") {
            Some(quoted) => {
                let end = quoted
                    .iter()
                    .position(|&byte| byte == b'"')
                    .ok_or("a quoted parameter has no end")?;
                (&quoted[..end], quoted[end + 1..].trim_ascii_start())
            }
            None => {
                let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
                (value[..end].trim_ascii_end(), &value[end..])
            }
        };
        if value.contains(&b'\\') && (wanted.starts_with(b"name") || name.eq_ignore_ascii_case(b"name")) {
            return Err("a quoted parameter holds a backslash");
        }
        if name.eq_ignore_ascii_case(wanted) && found.replace(value.to_vec()).is_some() {
            return Err("a parameter is repeated");
        }
        rest = after;
    }
    if rest.is_empty() {
        Ok(found)
    } else {
        Err("a header's parameters are malformed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let get = |text: &str| media_parameter(text.as_bytes(), b"boundary");
        assert_eq!(get("; boundary=abc"), Ok(Some(b"abc".to_vec())));
        assert_eq!(
            get(";charset=utf-8; Boundary=\"a;b c\" "),
            Ok(Some(b"a;b c".to_vec()))
        );
        assert_eq!(get("; x=\"boundary=no\""), Ok(None));
        assert_eq!(get(""), Ok(None));
        for bad in [
            "; boundary=a; boundary=b",
            "; boundary",
            "; boundary=\"a",
            "; boundary=\"a\"b",
        ] {
            assert!(get(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_and_files() {
        let field = |text: &str| Part::parse(text.as_bytes()).map(|part| part.is_field_model);
        let with = |rest: &str| field(&format!("Content-Disposition: form-data; {rest}\r\n\r\n"));
        assert_eq!(with("name=\"model\""), Ok(true));
        assert_eq!(with("name=model"), Ok(true));
        assert_eq!(with("name=\"file\"; filename=\"a\\\"b.wav\"").ok(), None);
        assert_eq!(with("name=\"file\"; filename=\"model\""), Ok(false));
        assert_eq!(with("name=\"model\"; filename=\"x.bin\""), Ok(false));
        for bad in [
            "name=\"mo\\del\"",
            "name*=utf-8''model",
            "name=a; name=model",
            "name=model; filename=\"\"",
            "name=model; filename*=utf-8''x",
            "x=y",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
        assert_eq!(field("\r\n"), Ok(false));
        assert!(field("Content-Disposition: form-data;\r\n name=model\r\n\r\n").is_err());
        assert!(field("Content-Disposition: form-data; name=model\nX: y\r\n\r\n").is_err());
        let encoded =
            "Content-Disposition: form-data; name=model\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        assert!(field(encoded).is_err());
        let utf16 =
            "Content-Disposition: form-data; name=model\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n";
        assert!(field(utf16).is_err());
    }
}
