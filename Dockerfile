# One static binary on an empty image: no shell, no libraries, no root.
#
#   docker build -t edgenode .
#   docker run -p 8080:8080 -v edgenode-data:/data edgenode
#
# The admin listener stays on the container's loopback address, out of reach from
# outside. To open it give it a token (see docs/configuration.md), for example in
# a file that is mounted at /etc/edgenode/edgenode.toml, and pass
# --config /etc/edgenode/edgenode.toml.

FROM golang:1.26 AS build
WORKDIR /src
# Modules first: this layer is kept until go.mod or go.sum change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/edgenode ./cmd/edgenode
# Made here, because the final image has nothing that could make a directory.
RUN mkdir -p /out/data /out/tmp && chmod 0700 /out/data && chmod 1777 /out/tmp

FROM scratch
# Authorities, for origins over https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/edgenode /edgenode
# SQLite sorts big results in /tmp.
COPY --from=build /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/data /data
ENV EDGENODE_DATA_DIR=/data
USER 65532:65532
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/edgenode"]
