# The control plane: docker build -f images/mesh-control.Dockerfile .
FROM rust:1.92-bookworm AS build
WORKDIR /mesh
COPY . .
RUN cargo build --locked --profile dist -p mesh-control

# Nothing is written: the root can be read-only.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /mesh/target/dist/mesh-control /usr/local/bin/mesh-control
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/mesh-control"]
