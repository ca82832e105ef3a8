import base from './jest.config.js';

// The randomised test of shared tabs depends on how fast Chromium reacts, so it runs by hand and not in `npm test`.
export default { ...base, testMatch: ['<rootDir>/__tests__/client/*.tabs.ts'], maxWorkers: 1 };
