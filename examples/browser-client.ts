/*
 * Serves the client to the pages of the examples, built from the sources of this repository. An application that has installed
 * the package serves the folder of its files, without a build:
 *
 *   app.use('/sse', express.static(fileURLToPath(new URL('..', import.meta.resolve('sse-router/client')))));
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { type RequestHandler, Router } from 'express';

const lib = join(dirname(fileURLToPath(import.meta.url)), '../lib');

/** Returns a router with /client/index.js, /client/tabs.js and /client/worker.js. */
export async function browserClient(): Promise<RequestHandler> {
  const options = { bundle: true, format: 'esm', outdir: '/client', write: false } as const;
  const results = await Promise.all([
    build({ ...options, entryPoints: [join(lib, 'client/index.ts'), join(lib, 'client/tabs.ts')], splitting: true }),
    build({ ...options, entryPoints: [join(lib, 'client/worker.ts')] }),
  ]);
  return serve(results.flatMap(({ outputFiles }) => outputFiles));
}

/** Returns a router with /page.js, a script with all that it imports, and the worker beside it, where the client expects it. */
export async function bundled(script: string): Promise<RequestHandler> {
  const { outputFiles } = await build({
    entryPoints: { page: script, worker: join(lib, 'client/worker.ts') },
    bundle: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    outdir: '/',
    write: false,
  });
  return serve(outputFiles);
}

function serve(files: readonly { path: string; text: string }[]): RequestHandler {
  const router = Router();
  for (const { path, text } of files) {
    router.get(path, (_req, res) => {
      res.set('Cache-Control', 'no-cache').type('js').send(text);
    });
  }
  return router;
}
