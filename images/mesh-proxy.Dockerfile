# The sidecar, and the rules that lead a pod's connections through it: docker build -f images/mesh-proxy.Dockerfile .
FROM rust:1.92-bookworm AS build
WORKDIR /mesh
COPY . .
RUN images/build-mesh-proxy

# nft with the libraries that it needs beside libc, for `mesh-proxy init`.
FROM debian:bookworm-slim AS nft
RUN apt-get update && apt-get install --yes --no-install-recommends nftables
RUN folder=/libraries/usr/lib/$(uname -m)-linux-gnu && mkdir -p "$folder" \
 && ldd /usr/sbin/nft | grep -o '/[^ ]*' | grep -v -e /libc.so -e /ld-linux | xargs cp --dereference -t "$folder"

# Nothing is written but to volumes: the root can be read-only.
FROM gcr.io/distroless/cc-debian12
COPY --from=nft /libraries /
COPY --from=nft /usr/sbin/nft /usr/sbin/nft
COPY --from=build /mesh/target/dist/mesh-proxy /usr/local/bin/mesh-proxy
USER 2102:2102
ENTRYPOINT ["/usr/local/bin/mesh-proxy"]
