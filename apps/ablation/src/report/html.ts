import type { html } from 'hono/html';

/** Markup from hono's `html`, which escapes every value that is not markup itself. */
export type Html = ReturnType<typeof html>;
