import base from './jest.config.js';

// What needs programs of the distribution: real proxies, and clients that are not packages. Not in `npm test`.
export default { ...base, testMatch: ['<rootDir>/__tests__/proxies/*.proxy.ts'], maxWorkers: 2, testTimeout: 30_000 };
