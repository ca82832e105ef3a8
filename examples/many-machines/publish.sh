#!/bin/sh
# Publishes without Node.js, as a worker in any language can: an event is one XADD command.
#
#   REDIS_URL=redis://127.0.0.1:6379 examples/many-machines/publish.sh 'Milk is out'
#
# Further fields: to and except, each a channel name or a JSON array of channel names. Prints the event's id.
exec redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379}" XADD '{sse}:log' '*' event note data "${1:?pass the text of the note}"
