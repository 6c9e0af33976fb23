# syntax=docker/dockerfile:1
# One static binary in an image with nothing else but CA certificates, running as nobody.
#   docker buildx build --platform linux/amd64,linux/arm64 -t sonde .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags='-s -w' -o /out/sonde ./cmd/sonde && \
    mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/sonde /sonde
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV SONDE_DATA=/data
VOLUME /data
EXPOSE 7070
ENTRYPOINT ["/sonde"]
CMD ["serve"]
