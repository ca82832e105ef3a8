import base from './jest.config.js';

// The test of the documentation site builds it with the packages of docs/. `npm test` does not run it.
export default { ...base, testMatch: ['<rootDir>/__tests__/site/*.site.ts'], testTimeout: 60_000 };
