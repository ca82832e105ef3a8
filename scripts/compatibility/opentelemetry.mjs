// Starts OpenTelemetry's SDK with the instrumentations of node:http and Express, for modules of both kinds.
import { register } from 'node:module';
import { ExpressInstrumentation } from '@opentelemetry/instrumentation-express';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { NodeSDK } from '@opentelemetry/sdk-node';

register('@opentelemetry/instrumentation/hook.mjs', import.meta.url);
globalThis.exportedSpans = 0; // read by the check of spans
const traceExporter = {
  export(spans, done) {
    globalThis.exportedSpans += spans.length;
    done({ code: 0 });
  },
  shutdown: async () => {},
};
new NodeSDK({ traceExporter, instrumentations: [new HttpInstrumentation(), new ExpressInstrumentation()] }).start();
