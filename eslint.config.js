import js from '@eslint/js';
import jsdoc from 'eslint-plugin-jsdoc';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { importLint } from './tools/checks/src/import-lint.js';

const tests = ['**/*.test.ts', '**/test/**/*.ts'];
/** Code that runs in a browser as in Node. */
const universal = [
  'packages/lvlm/src/{engine,families}/**/*.ts',
  'packages/lvlm/src/bundle/{bounded-template,chat-template,json,preprocessing,text-codec}.ts',
  'packages/onnx-graph/src/**/*.ts',
];
/** What reads files in the folders above. */
const ofNode = ['packages/onnx-graph/src/{external-data,files,model-file,skeleton}.ts'];

export default defineConfig(
  globalIgnores(['**/dist/', '**/.reports/', '.nx/', 'out/', 'tools/create-reducer/template/']),
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      // An async function without await is how a function that may throw keeps its promise to reject.
      '@typescript-eslint/require-await': 'off',
      // isolatedDeclarations asks for the type of every export, also where it is a plain literal.
      '@typescript-eslint/no-inferrable-types': 'off',
      eqeqeq: 'error',
    },
  },
  {
    files: ['{packages,apps}/*/src/**/*.ts'],
    plugins: { foveate: importLint },
    rules: { 'foveate/imports': 'error' },
  },
  {
    files: universal,
    ignores: [...tests, ...ofNode],
    rules: {
      'no-restricted-globals': ['error', 'Buffer', 'global', 'process', 'setImmediate'],
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          patterns: [
            { group: ['node:*', 'onnxruntime-node', 'sharp'], message: 'This runs in a browser too.' },
            {
              regex: 'onnx-graph/files|platform/(?!errors|clock|devices)|bundle/(bundle|files)\\.js',
              allowTypeImports: true,
              message: 'That needs Node, and this runs in a browser too: take it by the platform interface.',
            },
          ],
        },
      ],
    },
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: tests,
    plugins: { jsdoc },
    rules: {
      'jsdoc/require-jsdoc': [
        'error',
        {
          publicOnly: { esm: true },
          require: { ClassDeclaration: true, FunctionDeclaration: true, MethodDefinition: false },
          contexts: ['TSInterfaceDeclaration', 'TSTypeAliasDeclaration', 'VariableDeclaration'],
          enableFixer: false,
        },
      ],
    },
  },
  {
    files: tests,
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    // Configuration lies outside the packages' tsconfig.json; the root's checks its types.
    files: ['**/*.config.ts', 'tsdown.base.ts'],
    extends: [tseslint.configs.disableTypeChecked],
  },
  {
    files: ['**/*.js'],
    languageOptions: {
      globals: { AbortController: 'readonly', console: 'readonly', process: 'readonly', URL: 'readonly' },
    },
  },
);
