import base from './jest.config.js';

// The tests that need real proxies, curl and Firefox. `npm test` does not run them.
export default { ...base, testMatch: ['<rootDir>/__tests__/proxies/*.proxy.ts'], testTimeout: 30_000 };
