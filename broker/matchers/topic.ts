/**
 * Topic: binding keys are patterns of words between dots, `*` for exactly one word, `#` for any number. [AMQP 3.1.3.3]
 *
 * The patterns form a trie, which `match` runs as a nondeterministic automaton: the set of nodes reached so far is
 * advanced word by word and a node enters each set at most once. That bounds the work by words x nodes, where following
 * every branch on its own takes exponential time on patterns such as `#.a.#.a.#.a`.
 */
import type { FieldTable } from '../fields.ts';
import type { Bound, Matcher } from './matcher.ts';

class Node<B> {
  /** Reached by `#`: stays reached whatever word follows. */
  readonly isHash: boolean;
  readonly bindings: B[] = [];
  words: Map<string, Node<B>> | undefined;
  star: Node<B> | undefined;
  hash: Node<B> | undefined;
  /** The step of `match` that reached this node last. */
  step = 0;

  constructor(isHash: boolean) {
    this.isHash = isHash;
  }

  get isEmpty(): boolean {
    return this.bindings.length === 0 && !this.words?.size && !this.star && !this.hash;
  }
}

export class TopicMatcher<B extends Bound> implements Matcher<B> {
  readonly usesHeaders = false;
  readonly #root = new Node<B>(false);
  #step = 0;
  #reached: Node<B>[] = [];
  #next: Node<B>[] = [];

  add(binding: B): void {
    let node = this.#root;
    for (const word of patternWords(binding.bindingKey)) node = childFor(node, word);
    node.bindings.push(binding);
  }

  remove(binding: B): void {
    const words = patternWords(binding.bindingKey);
    const path = [this.#root];
    for (const word of words) {
      const child = childOf(path[path.length - 1] as Node<B>, word);
      if (!child) return;
      path.push(child);
    }
    const bindings = (path[path.length - 1] as Node<B>).bindings;
    const index = bindings.indexOf(binding);
    if (index >= 0) bindings.splice(index, 1);
    for (let depth = words.length; depth > 0 && path[depth]?.isEmpty; depth--) {
      dropChild(path[depth - 1] as Node<B>, words[depth - 1] as string);
    }
  }

  match(routingKey: string, _headers: FieldTable, found: B[]): void {
    let count = this.#reach(this.#root, this.#reached, 0, ++this.#step);
    // The empty key has no words; any other has one more than it has dots.
    for (let start = 0; routingKey !== '' && start <= routingKey.length && count > 0; ) {
      const dot = routingKey.indexOf('.', start);
      const end = dot < 0 ? routingKey.length : dot;
      count = this.#advance(routingKey.slice(start, end), count);
      start = end + 1;
    }
    for (let index = 0; index < count; index++) {
      for (const binding of (this.#reached[index] as Node<B>).bindings) found.push(binding);
    }
  }

  /** From the `count` nodes reached so far to those reached with one word more; how many they are. */
  #advance(word: string, count: number): number {
    const reached = this.#reached;
    const next = this.#next;
    const step = ++this.#step;
    let nextCount = 0;
    for (let index = 0; index < count; index++) {
      const node = reached[index] as Node<B>;
      const child = node.words?.get(word);
      if (child) nextCount = this.#reach(child, next, nextCount, step);
      if (node.star) nextCount = this.#reach(node.star, next, nextCount, step);
      if (node.isHash) nextCount = this.#reach(node, next, nextCount, step);
    }
    this.#reached = next;
    this.#next = reached;
    return nextCount;
  }

  /**
   * Enters a node into the `count` of this step, with the `#` below it, which matches no word at all just as well;
   * answers the new count. What stands behind the count in a set is left over from earlier.
   */
  #reach(node: Node<B>, set: Node<B>[], count: number, step: number): number {
    if (node.step === step) return count;
    node.step = step;
    set[count] = node;
    return node.hash ? this.#reach(node.hash, set, count + 1, step) : count + 1;
  }
}

/** The words of a binding key; a run of `#` means the same as one. */
function patternWords(bindingKey: string): string[] {
  const words = bindingKey === '' ? [] : bindingKey.split('.');
  return words.filter((word, index) => word !== '#' || words[index - 1] !== '#');
}

function childOf<B>(node: Node<B>, word: string): Node<B> | undefined {
  if (word === '*') return node.star;
  return word === '#' ? node.hash : node.words?.get(word);
}

function childFor<B>(node: Node<B>, word: string): Node<B> {
  const existing = childOf(node, word);
  if (existing) return existing;
  const child = new Node<B>(word === '#');
  if (word === '*') node.star = child;
  else if (word === '#') node.hash = child;
  else {
    node.words ??= new Map();
    node.words.set(word, child);
  }
  return child;
}

function dropChild<B>(node: Node<B>, word: string): void {
  if (word === '*') node.star = undefined;
  else if (word === '#') node.hash = undefined;
  else node.words?.delete(word);
}
