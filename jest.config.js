export default {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } } }] },
  // Builds and packed copies beside the sources contain a package.json of the same name.
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.tmp/'],
  // Installs the programs that the selected tests start, where that is allowed.
  globalSetup: './__tests__/fixtures/install-programs.ts',
  testSequencer: './__tests__/fixtures/longest-first.mjs',
  testTimeout: 20_000,
  // More workers than cores, because many tests wait for time to pass: on two cores, two workers used 56 % of the CPU time.
  // All tests took 332 s with two workers, before their programs started faster; 244 s with three, 209 s with four.
  maxWorkers: 3,
  // A worker slows down as the module registries of its test files accumulate, so a large one is replaced.
  workerIdleMemoryLimit: '1GB',
};
