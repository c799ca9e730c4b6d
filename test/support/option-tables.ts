/** The table of options as docs/configuration.md shows it. */
import { defaultText, OPTION_NAMES, OPTIONS, type Option, spelled, variables } from '../../gateways/options.ts';

/** A heading and a table for each group, in Markdown. */
export function optionTables(): string {
  const lines: string[] = [];
  let group: string | undefined;
  for (const name of OPTION_NAMES) {
    const option: Option<unknown> = OPTIONS[name];
    if (option.group !== group) {
      group = option.group;
      lines.push('', `### ${group}`, '', '| option | takes | default | what it is |', '| --- | --- | --- | --- |');
    }
    const alsoFrom = variables(name).slice(1);
    const also = alsoFrom.length === 0 ? '' : ` (also from \`${alsoFrom.join('`, `')}\`)`;
    const standard = defaultText(name);
    const cells = [`\`${spelled(name)}\``, option.kind.allowed, standard ?? '', `${option.help}${also}`];
    lines.push(`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`);
  }
  return lines.join('\n').trim();
}
