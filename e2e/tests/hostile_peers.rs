//! Peers that mean harm, or are broken as if they did: each is answered or cut off within its limit and counted, memory
//! and descriptors stay bounded, and honest clients on other connections are served meanwhile.

#[path = "hostile_peers/bodies.rs"]
mod bodies;
#[path = "hostile_peers/connections.rs"]
mod connections;
#[path = "hostile_peers/frames.rs"]
mod frames;
#[path = "hostile_peers/heads.rs"]
mod heads;
#[path = "hostile_peers/http2.rs"]
mod http2;
#[path = "hostile_peers/scene.rs"]
mod scene;
#[path = "hostile_peers/servers.rs"]
mod servers;
#[path = "hostile_peers/tls.rs"]
mod tls;
#[path = "hostile_peers/together.rs"]
mod together;
