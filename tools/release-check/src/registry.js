import { writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * A registry on this machine. It has the packages of this repository alone; all others it fetches from
 * `uplink`.
 *
 * @param {object} options
 * @param {string} options.folder where it keeps its files
 * @param {string} options.uplink the registry of everything else
 * @param {string} options.certificates that `uplink` is trusted by beside those that Node knows, in PEM, or
 * empty
 * @param {string[]} options.names the packages of this repository
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function startRegistry({ folder, uplink, certificates, names }) {
  const own = { access: '$all', publish: '$all' };
  const config = {
    storage: path.join(folder, 'storage'),
    auth: { htpasswd: { file: path.join(folder, 'htpasswd'), max_users: -1 } },
    uplinks: {
      npm: { url: uplink, timeout: '5m', maxage: '1h', ...(certificates === '' ? {} : { ca: certificates }) },
    },
    packages: {
      ...Object.fromEntries(names.map((name) => [name, own])),
      '**': { access: '$all', proxy: 'npm' },
    },
    max_body_size: '500mb',
    web: { enable: false },
    log: { type: 'file', path: path.join(folder, 'registry.log'), level: 'warn', format: 'json' },
  };
  const file = path.join(folder, 'registry.yaml');
  await writeFile(file, JSON.stringify(config)); // which is YAML
  const { runServer } = await import('verdaccio'); // takes seconds, and is needed here alone
  const server = await runServer(file);
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(undefined));
  });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
