#!/bin/sh
# What agents have used since their pods began: all of them in the gateway's pod, one in its own.
# check-usage.sh [URL of a metrics page]
set -eu
if [ $# -eq 0 ] && curl -sf -H 'Accept: text/plain' http://localhost:8080/usage; then
    exit 0
fi
curl -sf "${1:-http://localhost:9090/metrics}" | grep -E '^(agent_request|llm_tokens)' | sort
