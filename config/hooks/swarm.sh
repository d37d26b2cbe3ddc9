#!/bin/sh
# A hook for `autoscale`: the replicas of a Docker Swarm service, by the command line of Docker.
#
#   services:
#     shop:
#       backends: [tasks.shop:8000]            # Docker's name for all tasks of it; Portway is on one of its networks
#       autoscale:
#         min: 1
#         max: 10
#         hook: { command: [hooks/swarm.sh, shop] }
#
# `docker` talks to a manager: run Portway on one, or set DOCKER_HOST. The source `swarm:` does the same without a script.
set -eu
exec docker service scale --detach "${1:-$PORTWAY_SERVICE}=$PORTWAY_DESIRED"
