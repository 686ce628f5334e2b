#!/bin/sh
# Asks for access over HTTP, in the name of whose token it is, and prints what
# was decided:
#   PORTCULLIS_URL=https://APP.azurewebsites.net TOKEN=$(az account get-access-token \
#     --resource api://portcullis --query accessToken -o tsv) curl.sh ID request.json
set -eu
# The token goes in by a file of headers, so that it is in no list of processes.
printf 'Authorization: Bearer %s\n' "$TOKEN" |
  curl -sS --fail-with-body -X POST "$PORTCULLIS_URL/api/access-requests" \
    -H @- -H 'Content-Type: application/json' -H "Idempotency-Key: $1" --data-binary "@$2"
