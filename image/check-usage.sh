#!/bin/sh
# What agents have used, from their metrics: check-usage.sh [URL of a metrics page]
set -eu
curl -sf "${1:-http://localhost:9090/metrics}" | grep -E '^agent_(request|token)' | sort
