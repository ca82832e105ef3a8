export default {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } } }] },
  // What is built or packed beside the sources has a package.json of the same name.
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.tmp/'],
  testTimeout: 20_000,
  // By default one worker on two cores. What the module registries of a hundred files leave behind slows a worker down in time.
  maxWorkers: 2,
  workerIdleMemoryLimit: '1GB',
};
