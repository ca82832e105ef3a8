import { runStoreConformance } from '../../lib/conformance/index.ts';
import { MemoryRunLogs, memoryRuns } from '../../lib/runs/stores/memory-runs.ts';

describe('runs in memory', () => {
  for (const { name, run } of runStoreConformance(() => ({ store: memoryRuns() }))) test(name, run);
});

describe('runs in memory, with two handles', () => {
  const make = () => {
    const logs = new MemoryRunLogs();
    return { store: logs.handle(), reopen: () => logs.handle() };
  };
  for (const { name, run } of runStoreConformance(make)) test(name, run);
});
