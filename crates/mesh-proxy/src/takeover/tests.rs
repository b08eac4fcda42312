//! One side and the other in one process: sockets change hands with whatever waits in them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tokio::sync::watch;

use super::*;
use crate::apply::Listening;
use crate::listen::Takes;
use crate::observe::Direction;
use crate::testing::snapshot;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Case {
    _root: tempfile::TempDir,
    state: StateDir,
    listening: Listening,
    running: Running,
}

fn takes(direction: Direction) -> Takes {
    Takes {
        direction,
        intercepted: false,
    }
}

fn listener() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

fn case() -> Case {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&root.path().join("s")).unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, latest) = watch::channel(Some(Arc::new(snapshot(7))));
    drop(sender);
    let listening = Listening::default();
    let running = Running {
        listening: listening.clone(),
        admin: Arc::new((admin.local_addr().unwrap(), admin)),
        latest,
        state: state.clone(),
    };
    Case {
        _root: root,
        state,
        listening,
        running,
    }
}

async fn find(state: &StateDir) -> io::Result<Option<Predecessor>> {
    let state = state.clone();
    tokio::task::spawn_blocking(move || Predecessor::find(&state))
        .await
        .unwrap()
}

#[tokio::test]
async fn connections_that_wait_are_not_lost() {
    let Case {
        state,
        listening,
        running,
        _root,
    } = case();
    let socket = listener();
    let address = socket.local_addr().unwrap();
    listening
        .add(address, takes(Direction::Inbound), std::slice::from_ref(&socket))
        .unwrap();
    let takeover = TakeoverSocket::bind(&state).unwrap();
    let handing = tokio::spawn(hand_over(takeover, running));
    let mut waiting: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();

    let mut predecessor = find(&state).await.unwrap().unwrap();
    assert_eq!(
        crate::persist::load(&state).unwrap(),
        Some(snapshot(7)),
        "saved first"
    );
    let inherited = predecessor.listeners.remove(&address).unwrap();
    assert_eq!(inherited.len(), 1);
    assert!(
        !handing.is_finished(),
        "the other one serves until this one is ready"
    );
    predecessor.release().unwrap();
    tokio::time::timeout(PATIENCE, handing).await.unwrap().unwrap();
    drop(socket);
    listening.close();

    waiting.extend((0..50).map(|_| TcpStream::connect(address).unwrap()));
    for _ in &waiting {
        let (mut taken, _) = inherited[0].accept().unwrap();
        taken.write_all(b"x").unwrap();
    }
    for mut stream in waiting {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
    }
    drop(inherited);
    assert!(TcpStream::connect(address).is_err(), "nobody holds it any more");
}

#[tokio::test]
async fn a_proxy_that_fails_to_take_over_changes_nothing() {
    let Case {
        state,
        running,
        _root,
        ..
    } = {
        let case = case();
        // More sockets than one message holds.
        let sockets: Vec<_> = (0..wire::MAX_SOCKETS + 5).map(|_| listener()).collect();
        let first = sockets[0].local_addr().unwrap();
        case.listening
            .add(first, takes(Direction::Outbound), &sockets)
            .unwrap();
        case
    };
    let admin_at = running.admin.0;
    let handing = tokio::spawn(hand_over(TakeoverSocket::bind(&state).unwrap(), running));
    for _ in 0..3 {
        let mut predecessor = find(&state).await.unwrap().unwrap();
        let sockets = predecessor.listeners.values().map(Vec::len).sum::<usize>();
        assert_eq!(sockets, wire::MAX_SOCKETS + 5);
        assert!(predecessor.take_admin(([127, 0, 0, 1], 1).into()).is_none());
        assert!(predecessor.take_admin(admin_at).is_some());
        drop(predecessor);
    }
    assert!(!handing.is_finished());
    find(&state).await.unwrap().unwrap().release().unwrap();
    tokio::time::timeout(PATIENCE, handing).await.unwrap().unwrap();
    assert!(
        find(&state).await.unwrap().is_none(),
        "nobody listens there any more"
    );
}

#[tokio::test]
async fn whatever_else_is_said_is_refused() {
    let Case {
        state,
        running,
        _root,
        ..
    } = case();
    let _handing = tokio::spawn(hand_over(TakeoverSocket::bind(&state).unwrap(), running));
    for message in [
        Message::TakeOver {
            protocol: PROTOCOL + 1,
        },
        Message::Ready,
        Message::All,
    ] {
        let at = path(&state);
        let answer = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(&at, PATIENCE).unwrap().unwrap();
            connection.send(&message, &[]).unwrap();
            connection.receive()
        });
        let error = answer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    assert!(find(&state).await.unwrap().is_some());
}

#[tokio::test]
async fn without_a_proxy_there_is_nothing_to_take_over() {
    let Case { state, _root, .. } = case();
    assert!(find(&state).await.unwrap().is_none());
    // What one that crashed has left behind.
    drop(TakeoverSocket::bind(&state).unwrap());
    assert!(find(&state).await.unwrap().is_none());
    TakeoverSocket::bind(&state).unwrap();
}
