/** Templates as the library renders them, and templates that would never end. */
import { Template } from '@huggingface/jinja';
import { describe, expect, test } from 'vitest';
import { BoundedTemplate } from './bounded-template.js';

describe('as the library', () => {
  test.each([
    '{% for i in range(3) %}{{ i }},{% endfor %}{% for i in range(5, 1, -2) %}{{ i }},{% endfor %}',
    '{% for i in range(2, 2) %}x{% else %}none{% endfor %}{{ range(4)[::-1] | join }}',
    '{{ true and True }} {{ false or False }} {{ none is none and None is none }} {{ unknown is defined }}',
    '{% macro twice(x) %}{{ x ~ x }}{% endmacro %}{{ twice(word) }}{% set ns = namespace(n=1) %}{{ ns.n }}',
    "{{ strftime_now('%Y') }} {{ {'a': 1} | tojson }}\n",
  ])('%s', (source) => {
    const variables = { word: 'x' };
    expect(new BoundedTemplate(source).render(variables)).toBe(new Template(source).render(variables));
  });

  test('a long conversation', () => {
    const text = 'x'.repeat(1_000_000);
    const messages = Array.from({ length: 256 }, () => ({ content: [{ type: 'image' }] }));
    const source =
      '{% for m in messages %}{% for c in m.content %}{{ c.type }}{% endfor %}{% endfor %}{{ text }}';
    expect(new BoundedTemplate(source).render({ messages, text })).toBe('image'.repeat(256) + text);
  });

  test('raise_exception', () => {
    expect(() => new BoundedTemplate("{{ raise_exception('no') }}").render({})).toThrow('no');
  });
});

test.each([
  ['{% for i in range(1000000000) %}x{% endfor %}', /range\(\) has more than 10000 numbers/],
  ['{{ range(0, 10, 0) }}', /range\(\) has more than/],
  ['{{ range(1, 2, 0.00000001) }}', /range\(\) has more than/],
  [
    '{% set r = range(10000) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}',
    /loops without end/,
  ],
  [
    '{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}',
    /loops without end/,
  ],
  ['{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', /call stack|not a function/],
  [
    "{% set ns = namespace(s=['x']) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    /loops without end/,
  ],
  [
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    /loops without end|string length/,
  ],
])('%s', (source, message) => {
  expect(() => new BoundedTemplate(source).render({})).toThrow(message);
});

test('a source that is too long, or nested too deep', () => {
  expect(() => new BoundedTemplate(' '.repeat(2 ** 16 + 1))).toThrow(/at most 65536 are read/);
  expect(() => new BoundedTemplate(`{{ ${'('.repeat(60_000)} }}`)).toThrow();
});
