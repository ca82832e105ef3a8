#!/bin/sh
# Publishes from outside of Node.js, as a worker in any language can: an event is one XADD.
#
#   REDIS_URL=redis://127.0.0.1:6379 examples/many-machines/publish.sh 'Milk is out'
#
# Further fields: to and except, a channel's name or a JSON array of them. Prints the event's id.
exec redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379}" XADD '{sse}:log' '*' event note data "${1:?what to say}"
