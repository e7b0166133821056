/** Speaks to a hub: where it is, who asks, and what its refusals mean. For Node. */
import { HubError } from '../platform/errors.js';

const HUB = 'https://huggingface.co';

/** A model of a hub, at a revision. */
export interface HubModel {
  /** `owner/name`. */
  readonly id: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
}

/** One hub, asked about one model. */
export interface HubClient {
  readonly endpoint: string;
  readonly model: HubModel;
  /**
   * `fetch` with the token, for the hub only. Given to @huggingface/hub, which takes tokens of one form only and
   * tells a refusal by its status alone.
   * @throws HubError for every answer that is no success, or where there is none
   */
  readonly fetch: typeof fetch;
}

/**
 * The hub that HF_ENDPOINT names, asked with the token in HF_TOKEN.
 * @throws HubError where HF_ENDPOINT is no URL
 */
export function openHub(model: HubModel): HubClient {
  const endpoint = (process.env.HF_ENDPOINT ?? HUB).replace(/\/+$/, '');
  const token = process.env.HF_TOKEN?.trim();
  const origin = /^https?:/.test(endpoint) && URL.canParse(endpoint) ? new URL(endpoint).origin : null;
  if (origin === null)
    throw new HubError(`HF_ENDPOINT must be the address of a hub, such as ${HUB}; it is ${endpoint}.`);
  const ask: typeof fetch = async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init?.headers);
    if (token && url.origin === origin) headers.set('authorization', `Bearer ${token}`); // fetch takes it off a redirect elsewhere
    const response = await fetch(url, { ...init, headers }).catch((cause: unknown) => {
      throw new HubError(
        `${url.origin} cannot be reached: ${networkReason(cause)}. Check the connection and HF_ENDPOINT; with localOnly (--local-only) a model that is in the cache is used without the network.`,
        { cause },
      );
    });
    if (response.ok) return response;
    await response.body?.cancel();
    throw refusal(response, { endpoint, model, hasToken: Boolean(token) });
  };
  return { endpoint, model, fetch: ask };
}

/** Why a request or its answer broke off: fetch says only that it did, its cause says why. */
export function networkReason(error: unknown): string {
  const { message, cause } = error as { readonly message: string; readonly cause?: unknown };
  const { code, message: reason } = Object(cause) as { readonly code?: string; readonly message?: string };
  return [message, code ?? reason].filter(Boolean).join(', ');
}

interface Asked {
  readonly endpoint: string;
  readonly model: HubModel;
  readonly hasToken: boolean;
}

function refusal(response: Response, { endpoint, model, hasToken }: Asked): HubError {
  const { status } = response;
  const { id, revision } = model;
  const error = (advice: string): HubError =>
    new HubError(`${endpoint} answers ${status} for ${id}: ${advice}`, { status });
  switch (status) {
    case 401:
      return error(
        hasToken
          ? 'there is no such model, or the token in HF_TOKEN is wrong, has expired, or may not read it. Check the name and the token.'
          : 'there is no such model, or it is private or gated. Check the name; for a private or gated model set HF_TOKEN to a token that may read it.',
      );
    case 403:
      return error(
        hasToken
          ? `the token in HF_TOKEN may not read it. Where the model is gated, accept its terms at ${endpoint}/${id}; a fine-grained token needs the right to read gated models.`
          : `it is not for everyone. Accept its terms at ${endpoint}/${id}, and set HF_TOKEN to a token that may read it.`,
      );
    case 404:
      return error(
        response.headers.get('x-error-code') === 'RevisionNotFound'
          ? `it has no revision ${revision}. Name one of its branches, tags or commits.`
          : `there is no such model, revision (${revision}) or file. Check the name; a folder is written ./${id}.`,
      );
    case 429: {
      const wait = response.headers.get('retry-after');
      return error(
        `too many requests. Wait ${wait !== null && /^\d+$/.test(wait) ? `${wait} s` : 'some minutes'} and run it again: what was fetched is kept. ${hasToken ? '' : 'With a token in HF_TOKEN the limit is higher.'}`.trim(),
      );
    }
    default:
      return error(`${response.statusText || 'no success'}. Try again later; what was fetched is kept.`);
  }
}
