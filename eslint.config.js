import tseslint from 'typescript-eslint';
import { nodeOnly } from './scripts/eslint/arrows.mjs';
import { importArrows } from './scripts/eslint/import-arrows.mjs';

const source = ['packages/*/src/**/*.ts', 'apps/*/src/**/*.ts', 'internal/*/src/**/*.ts'];
const nodeFiles = ['**/*.node.ts', '**/src/node.ts', ...nodeOnly.map((name) => `packages/${name}/src/**`)];
const nodeGlobals = ['process', 'Buffer', 'global', 'require', '__dirname', '__filename', 'setImmediate'];

export default tseslint.config(
  {
    ignores: ['**/dist/**', '**/target/**', '**/node_modules/**', '.tools/**', '**/.cache/**', '.turbo/**', 'docs/**'],
  },
  ...tseslint.configs.strict,
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // The rules that need types and find real faults: forgotten awaits, promises as conditions, missing cases.
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      // Zero-filled outputs of ops without results are written `{}`.
      '@typescript-eslint/no-empty-object-type': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      eqeqeq: 'error',
      'prefer-const': 'error',
    },
  },
  {
    files: source,
    plugins: { filigree: { rules: { 'import-arrows': importArrows } } },
    rules: {
      'filigree/import-arrows': 'error',
      'no-restricted-syntax': ['error', { selector: 'ExportDefaultDeclaration', message: 'No default exports.' }],
    },
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: nodeFiles,
    rules: {
      'no-restricted-globals': [
        'error',
        ...nodeGlobals.map((name) => ({ name, message: 'Only *.node.ts files use what Node alone has.' })),
      ],
    },
  },
);
