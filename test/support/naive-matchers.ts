/** What the keys and arguments of bindings mean, said as plainly as possible: the measure of the matchers. */
import type { FieldTable } from '../../broker/fields.ts';

const wordsOf = (key: string): string[] => (key === '' ? [] : key.split('.'));

/** Whether a topic pattern matches a routing key. */
export function topicMatches(pattern: string, routingKey: string): boolean {
  return wordsMatch(wordsOf(pattern), wordsOf(routingKey));
}

function wordsMatch(pattern: readonly string[], words: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return words.length === 0;
  if (first === '#') return wordsMatch(rest, words) || (words.length > 0 && wordsMatch(pattern, words.slice(1)));
  return words.length > 0 && (first === '*' || first === words[0]) && wordsMatch(rest, words.slice(1));
}

/** Whether the arguments of a binding want these headers; for values that are the same when they are written the same. */
export function headersMatch(args: FieldTable, headers: FieldTable): boolean {
  const mode = args['x-match'] ?? 'all';
  const names = Object.keys(args).filter((name) => name !== 'x-match');
  const asked = mode === 'all' || mode === 'any' ? names.filter((name) => !name.startsWith('x-')) : names;
  const met = asked.filter((name) => {
    const [wanted, actual] = [args[name], headers[name]];
    return actual !== undefined && (wanted === null || String(wanted) === String(actual));
  });
  return String(mode).startsWith('all') ? met.length === asked.length : met.length > 0;
}
