#!/usr/bin/env bash
# Send a picture or a video to the web service, wait for it, and download the result:
#   examples/web_client.sh FILE [URL] [FIELD=VALUE ...]
# With a token: TOKEN=secret examples/web_client.sh FILE URL
# It needs curl 7.84 or later, and python3 to read JSON.
set -euo pipefail
file=${1:?usage: $0 FILE [URL] [FIELD=VALUE ...]}
url=${2:-http://127.0.0.1:5000}
shift; [ $# -eq 0 ] || shift
fields=()
for field in "$@"; do fields+=(-F "$field"); done
ask() { curl -sS ${TOKEN:+-H "Authorization: Bearer $TOKEN"} "$@"; }
read_field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]) or "")' "$1"; }

while :; do
    answer=$(ask -F "image=@$file" "${fields[@]}" -w '\n%{http_code} %header{retry-after}' "$url/jobs")
    job=${answer%$'\n'*}
    read -r status seconds <<< "${answer##*$'\n'}"
    [ "$status" = 429 ] || break  # the queue is full
    sleep "$seconds"
done
path=$(read_field url <<< "$job")
[ -n "$path" ] || { read_field error <<< "$job" >&2; exit 1; }
while state=$(ask "$url$path"); do
    case $(read_field state <<< "$state") in
        queued|running) sleep 1 ;;
        done) break ;;
        *) read_field error <<< "$state" >&2; exit 1 ;;
    esac
done
name=$(read_field name <<< "$state")
ask -o "$name" "$url$(read_field result <<< "$state")"
ask -X DELETE "$url$path"
echo "$name"
