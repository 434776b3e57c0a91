# The bot in a container: it turns events of GitHub and Jira into actions, and needs no hypervisor. Machines are with a runner,
# which runs on its own host. docs/run-as-a-service.md has the settings.
#   docker build -t agent-swarm-bot .
# BASE is an image with Node 24 or newer, npm and useradd.
ARG BASE=node:24-bookworm-slim

FROM ${BASE} AS build
WORKDIR /build
COPY . .
# The base has the Node that the checkout would install for its scripts.
RUN npm ci --ignore-scripts --no-audit --no-fund \
 && npm pack --silent \
 && mkdir /opt/agent-swarm \
 && tar -xzf agent-swarm-*.tgz -C /opt/agent-swarm --strip-components=1 --no-same-owner \
 && cp package-lock.json /opt/agent-swarm/ \
 && cd /opt/agent-swarm \
 && npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM ${BASE}
COPY --from=build /opt/agent-swarm /opt/agent-swarm
RUN ln -s /opt/agent-swarm/bin/agent-swarm.js /usr/local/bin/agent-swarm \
 && useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin agent-swarm \
 && chmod 700 /data
USER 10001:10001
# Settings (config.yaml), databases and backups.
VOLUME /data
WORKDIR /data
ENV HOME=/data AGENT_SWARM_HOME=/data HOST=0.0.0.0 PORT=3000
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["agent-swarm", "bot"]
