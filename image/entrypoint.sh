#!/bin/sh
# The image's entry point. Flags alone are the controller's: manifests that run it name no command.
case "${1:-}" in
    -h | --help | --version) ;;
    --*) set -- operator "$@" ;;
esac
exec env --block-signal=TERM python3 -P -m kadre "$@"
