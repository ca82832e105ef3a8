// Exits with 0 if the server is healthy, otherwise with 1.
const { PORT = 3000 } = process.env;
const { status } = await fetch(`http://127.0.0.1:${PORT}/health`, { signal: AbortSignal.timeout(2000) });
process.exitCode = status === 200 ? 0 : 1;
