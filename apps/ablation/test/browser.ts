/**
 * A headless Chromium from npm alone: its program, fonts and libraries are unpacked from the package, nothing
 * is downloaded.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import chromium from '@sparticuz/chromium';
import { chromium as playwright, type Browser } from 'playwright-core';

/** With these it cannot close a page without ending as a whole. */
const REFUSED = ['--single-process', '--no-zygote'];

export interface OpenBrowser {
  readonly browser: Browser;
  close(): Promise<void>;
}

/**
 * Opens one that is unpacked for this call, into a folder of its own: the package's own place, `chromium` in
 * the folder of temporary files, may hold half a program of a process that was killed. FOVEATE_CHROMIUM names
 * another program, for systems other than Linux x64.
 */
export async function openBrowser(): Promise<OpenBrowser> {
  const { TMPDIR, FOVEATE_CHROMIUM } = process.env;
  const folder = await mkdtemp(path.join(tmpdir(), 'foveate-chromium-'));
  process.env.TMPDIR = folder;
  try {
    const executablePath = FOVEATE_CHROMIUM ?? (await chromium.executablePath());
    const args = chromium.args.filter((arg) => !REFUSED.includes(arg));
    const browser = await playwright.launch({ executablePath, args });
    const close = async (): Promise<void> => {
      await browser.close();
      await rm(folder, { recursive: true, force: true });
    };
    return { browser, close };
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  }
}
