// The Gateway API's kinds: files of a module of which nothing is built.
module mesh.dev/e2e/cluster/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.3
