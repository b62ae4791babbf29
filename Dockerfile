FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --release

FROM debian:bookworm-slim
# The certificates are for TLS to Redis and MySQL, curl is for the health check.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 lockkeeper \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lockkeeper
COPY --from=build /build/target/release/lockkeeper /usr/local/bin/lockkeeper

# By number, so that Kubernetes can see that it is not root.
USER 65532:65532

# The default, 127.0.0.1, could not be reached from outside the container.
ENV LOCKKEEPER_HTTP_LISTEN=0.0.0.0:9464
EXPOSE 9464

HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:9464/readyz"]

ENTRYPOINT ["lockkeeper"]
CMD ["run"]
