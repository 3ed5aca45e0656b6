import tseslint from 'typescript-eslint';

/** What each package may import of the others; the arrows of docs/architecture. Everything not listed is an error. */
const arrows = {
  'core-tensor': [],
  'backend-native': ['core-tensor'],
  'backend-webgpu': ['core-tensor'],
  checkpoint: ['core-tensor'],
  training: ['core-tensor', 'checkpoint'],
  'sparse-attention': ['core-tensor', 'checkpoint'],
  'kv-cache': ['core-tensor', 'checkpoint', 'sparse-attention'],
  'moe-routing': ['core-tensor', 'checkpoint'],
  'nm-sparsity': ['core-tensor', 'checkpoint'],
  quantization: ['core-tensor', 'checkpoint', 'nm-sparsity'],
  sae: ['core-tensor', 'checkpoint', 'training'],
  transformer: [
    'core-tensor',
    'checkpoint',
    'sparse-attention',
    'kv-cache',
    'moe-routing',
    'nm-sparsity',
    'quantization',
    'training',
  ],
  evaluation: [
    'core-tensor',
    'checkpoint',
    'sparse-attention',
    'kv-cache',
    'moe-routing',
    'nm-sparsity',
    'quantization',
    'sae',
    'transformer',
  ],
};

/** Backends are optional peers of transformer: only the files that choose the default one import them. */
const backendChoosers = ['packages/transformer/src/default-backend.*.ts'];

/** Files that may use Node's modules: reached through package.json `imports` or living in Node-only packages. */
const nodeFiles = ['packages/*/src/**/*.node.ts', 'packages/backend-native/src/**'];

function forbidden(name, { node, backends = false }) {
  const allowed = [...arrows[name], name, ...(backends ? ['backend-native', 'backend-webgpu'] : [])];
  const others = `^@filigree/(?!(?:${[...allowed, 'wgsl'].join('|')})(?:/|$))`;
  const patterns = [
    { regex: others, message: `${name} imports only ${allowed.slice(0, -1).join(', ') || 'nothing'} of the other packages.` },
  ];
  if (!node) patterns.push({ regex: '^node:', message: 'Only *.node.ts files use Node modules; the rest runs in browsers.' });
  return { 'no-restricted-imports': ['error', { patterns }] };
}

export default tseslint.config(
  {
    ignores: [
      '**/dist/**',
      '**/target/**',
      '**/node_modules/**',
      '.tools/**',
      '.cache/**',
      '.turbo/**',
      'docs/**',
      'test/lint-fixtures/**',
    ],
  },
  ...tseslint.configs.strict,
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // Zero-filled outputs of ops without results are written `{}`.
      '@typescript-eslint/no-empty-object-type': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      eqeqeq: 'error',
      'prefer-const': 'error',
    },
  },
  {
    files: ['packages/*/src/**/*.ts', 'apps/*/src/**/*.ts'],
    rules: { 'no-restricted-syntax': ['error', { selector: 'ExportDefaultDeclaration', message: 'No default exports.' }] },
  },
  ...Object.keys(arrows).flatMap((name) => [
    { files: [`packages/${name}/src/**/*.ts`], ignores: nodeFiles, rules: forbidden(name, { node: false }) },
    {
      files: [`packages/${name}/src/**/*.node.ts`, ...(name === 'backend-native' ? ['packages/backend-native/src/**'] : [])],
      rules: forbidden(name, { node: true }),
    },
  ]),
  { files: backendChoosers, rules: forbidden('transformer', { node: true, backends: true }) },
);
