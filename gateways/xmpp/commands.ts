/** The verbs of the bot as ad-hoc commands [XEP-0050], each with a form [XEP-0004] where it takes something. */
import { type Element, element } from './element.ts';
import { formatJid, type Jid } from './jid.ts';
import { COMMANDS, DATA_FORM } from './namespaces.ts';
import type { Item } from './server-info.ts';
import { resultReply, StanzaError } from './stanza-error.ts';
import { VERBS, type Verb, type VerbContext, type VerbField, type VerbValues } from './verbs.ts';

/** What the list of commands is made of. */
export function commandItems(domain: string): Item[] {
  return VERBS.map(({ name, help }) => ({ jid: domain, node: name, name: `${name}: ${help}` }));
}

/** The title of the command with that node; undefined when there is none. */
export function commandTitle(node: string): string | undefined {
  return VERBS.find(({ name }) => name === node)?.help;
}

/** The answer to a `<command/>`. Rejects with StanzaError and what verbs reject with. */
export async function serveCommand(iq: Element, command: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { node = '', action = 'execute', sessionid } = command.attributes;
  const verb = VERBS.find(({ name }) => name === node);
  if (verb === undefined) throw new StanzaError('item-not-found', `no command "${node}"`);
  // A session holds nothing here: all that it would hold is in the form.
  const attributes = { node, sessionid: sessionid ?? `${node} ${formatJid(from)}` };
  const answer = (status: string, ...children: readonly (Element | undefined)[]): Element =>
    resultReply(iq, element('command', COMMANDS, { ...attributes, status }, ...children));
  const form = command.child('x', DATA_FORM);
  if (action === 'cancel') return answer('canceled');
  if (!['execute', 'next', 'complete'].includes(action)) {
    throw new StanzaError('bad-request', `no action "${action}"`, element('bad-action', COMMANDS));
  }
  if (form === undefined && verb.fields.length > 0 && (action === 'execute' || sessionid === undefined)) {
    const actions = element('actions', COMMANDS, { execute: 'complete' }, element('complete', COMMANDS));
    return answer('executing', actions, formOf(verb));
  }
  const said = await verb.run(readForm(verb, form), from, context);
  return answer('completed', element('note', COMMANDS, { type: 'info' }, said), resultForm(verb, said));
}

function formOf(verb: Verb): Element {
  return element(
    'x',
    DATA_FORM,
    { type: 'form' },
    element('title', DATA_FORM, {}, verb.name),
    element('instructions', DATA_FORM, {}, verb.help),
    ...verb.fields.map(fieldElement),
  );
}

const FIELD_TYPES = { text: 'text-single', boolean: 'boolean', choice: 'list-single' } as const;

function fieldElement({ name, label, required, type = 'text', choices = [], default: value }: VerbField): Element {
  return element(
    'field',
    DATA_FORM,
    { var: name, label, type: FIELD_TYPES[type] },
    required ? element('required', DATA_FORM) : undefined,
    value === undefined ? undefined : element('value', DATA_FORM, {}, value),
    ...choices.map((choice) =>
      element('option', DATA_FORM, { label: choice }, element('value', DATA_FORM, {}, choice)),
    ),
  );
}

/** The answer line by line, for clients that show forms only. */
function resultForm(verb: Verb, said: string): Element {
  const values = said.split('\n').map((line) => element('value', DATA_FORM, {}, line));
  const field = element('field', DATA_FORM, { var: 'answer', label: 'Answer', type: 'text-multi' }, ...values);
  return element('x', DATA_FORM, { type: 'result' }, element('title', DATA_FORM, {}, verb.name), field);
}

function readForm(verb: Verb, form: Element | undefined): VerbValues {
  const values: Record<string, string> = {};
  for (const field of form?.elements ?? []) {
    const { var: name = '' } = field.attributes;
    const value = field.child('value')?.text ?? '';
    const known = verb.fields.find((one) => one.name === name);
    if (known === undefined || value === '') continue;
    values[name] = known.type === 'boolean' ? String(value === '1' || value === 'true') : value;
  }
  const missing = verb.fields.find(({ name, required }) => required && values[name] === undefined);
  if (missing !== undefined) throw new StanzaError('bad-request', `${missing.label} is missing`);
  return values;
}
