#!/bin/sh
# A web server made of curl: serve.sh GATEWAY NAME USER:PASSWORD. The loop of the README.
request=$(mktemp)
link() { sed -n "s/^Link: <\(.*\)>; rel=\"$1\".*/\1/p"; }
url=$(curl -si -u "$3" -d "name=$2" "$1/reversehttp" | link first)
echo "polling"
while [ -n "$url" ]; do
  : > "$request"
  next=$(curl -s -D - -o "$request" "$url" | link next)
  if [ -s "$request" ]; then
    printf 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>You asked for %s</h1>\n' \
      "$(head -n 1 "$request" | cut -d ' ' -f 2)" | curl -s --data-binary @- "$url"
  fi
  url=$next
done
