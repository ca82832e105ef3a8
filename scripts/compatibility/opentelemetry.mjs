// Starts OpenTelemetry's SDK with the instrumentations of node:http and Express, for modules of both kinds.
import { register } from 'node:module';
import { ExpressInstrumentation } from '@opentelemetry/instrumentation-express';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { NodeSDK, tracing } from '@opentelemetry/sdk-node';

register('@opentelemetry/instrumentation/hook.mjs', import.meta.url);
const spanProcessors = [new tracing.SimpleSpanProcessor(new tracing.InMemorySpanExporter())];
new NodeSDK({ spanProcessors, instrumentations: [new HttpInstrumentation(), new ExpressInstrumentation()] }).start();
