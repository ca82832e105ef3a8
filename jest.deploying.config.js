import base from './jest.config.js';

// The test of docs/deploying.md, which installs pm2 and the packed package. `npm test` does not run it.
export default { ...base, testMatch: ['<rootDir>/__tests__/deploying/*.deploying.ts'], testTimeout: 60_000 };
