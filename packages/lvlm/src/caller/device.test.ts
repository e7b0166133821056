/** Devices that are not there. What runs on one that is: test/webgpu.ts. */
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CACHE, FIXTURE } from '../../test/bundles.js';
import { devices, Lvlm, PlatformError, type Device } from '../index.js';

const elsewhere: readonly Device[] =
  process.platform === 'darwin'
    ? ['cuda', 'dml']
    : process.platform === 'win32'
      ? ['coreml']
      : ['coreml', 'dml'];

describe('device', () => {
  it.each(elsewhere)('%s, of another platform: says so, and names the processor', async (device) => {
    const loading = Lvlm.load(FIXTURE, { device, cacheDirectory: CACHE });
    await expect(loading).rejects.toThrow(PlatformError);
    await expect(loading).rejects.toThrow(
      new RegExp(
        `cannot use the device ${device} here\\. It needs .* Or choose the device cpu\\. onnxruntime says: .`,
      ),
    );
  });

  it.skipIf(existsSync('/proc/driver/nvidia') || process.platform !== 'linux')(
    'cuda without its libraries: what to install',
    async () => {
      await expect(Lvlm.load(FIXTURE, { device: 'cuda', cacheDirectory: CACHE })).rejects.toThrow(
        /cannot use the device cuda here\. .*cuDNN 9.*ONNXRUNTIME_NODE_INSTALL=skip/,
      );
    },
  );

  it('is one of those that are listed', async () => {
    const device = 'gpu' as Device;
    await expect(Lvlm.load(FIXTURE, { device })).rejects.toThrow(
      `device must be one of ${devices.join(', ')}`,
    );
  });
});
