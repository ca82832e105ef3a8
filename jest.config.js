export default {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } } }] },
  // Builds and packed copies beside the sources contain a package.json of the same name.
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.tmp/'],
  // Installs the programs that the selected tests start, where that is allowed.
  globalSetup: './__tests__/fixtures/install-programs.ts',
  testTimeout: 20_000,
  // Jest's default is one worker on two cores. A worker slows down as the module registries of its test files accumulate.
  maxWorkers: 2,
  workerIdleMemoryLimit: '1GB',
};
