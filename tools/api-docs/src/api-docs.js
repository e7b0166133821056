/**
 * `npm run docs`: the API pages of all packages, in out/api. With --check nothing is written. Any warning
 * fails: a link that leads nowhere, a type that is used but not exported, a @param that is no parameter.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, Converter, ReflectionKind } from 'typedoc';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const out = path.join(root, 'out/api');

const app = await Application.bootstrap({
  name: 'Foveate',
  entryPoints: entryPoints(),
  tsconfig: fileURLToPath(new URL('../tsconfig.packages.json', import.meta.url)),
  basePath: root,
  readme: 'none',
  disableGit: true,
  sourceLinkTemplate: 'https://github.com/foveate/foveate/blob/main/{path}#L{line}',
  excludeExternals: true,
  validation: { notExported: true, invalidLink: true, invalidPath: true, notDocumented: false },
});

// A module is named after its folder; its readers know the package by another name.
app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
  for (const module of project.getChildrenByKind(ReflectionKind.Module)) {
    const [, folder, , ...entry] = module.name.split('/'); // packages/core/src/testing
    module.name = [manifestOf(folder).name, ...entry].join('/');
  }
});

const project = await app.convert();
if (project) {
  app.validate(project);
  if (!process.argv.includes('--check')) await app.generateDocs(project, out);
}
if (!project || app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1;

/** The sources behind the exports of every package. */
function entryPoints() {
  return readdirSync(path.join(root, 'packages'))
    .filter((folder) => existsSync(path.join(root, 'packages', folder, 'package.json')))
    .flatMap((folder) =>
      Object.values(manifestOf(folder).exports).map((entry) =>
        path.join(root, 'packages', folder, entry['@foveate/source']),
      ),
    );
}

/** @param {string} folder */
function manifestOf(folder) {
  return JSON.parse(readFileSync(path.join(root, 'packages', folder, 'package.json'), 'utf8'));
}
