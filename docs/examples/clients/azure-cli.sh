#!/bin/sh
# The same with the Azure CLI, as whoever is signed in (az login):
#   PORTCULLIS_URL=https://APP.azurewebsites.net azure-cli.sh ID request.json
# With TOKEN, that token is sent instead of one of the CLI's.
set -eu
if [ -n "${TOKEN:-}" ]; then
  set -- "$1" "$2" --skip-authorization-header
  header="Authorization=Bearer $TOKEN"
else
  set -- "$1" "$2" --resource "${PORTCULLIS_AUDIENCE:-api://portcullis}"
  header="Accept=application/json"
fi
id=$1 file=$2
shift 2
az rest --method post --url "$PORTCULLIS_URL/api/access-requests" "$@" \
  --headers "$header" "Content-Type=application/json" "Idempotency-Key=$id" --body "@$file"
