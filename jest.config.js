export default {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } } }] },
  // Builds and packed copies beside the sources contain a package.json of the same name.
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.tmp/'],
  // Installs the programs that the selected tests start, where that is allowed.
  globalSetup: './__tests__/fixtures/install-programs.ts',
  testTimeout: 20_000,
  // Three workers on two cores: in total, the tests wait as long for time to pass as one core computes.
  maxWorkers: 2,
  // A worker slows down as the module registries of its test files accumulate, so a large one is replaced.
  workerIdleMemoryLimit: '1GB',
};
