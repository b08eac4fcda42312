//! The routing and policy model of the mesh.
