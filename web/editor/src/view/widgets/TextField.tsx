/** TextField: a line, or several. */

interface Props {
  label: string;
  name: string;
  value: string;
  multiline: boolean;
  placeholder?: string;
  onChange: (value: string) => void;
}

/** Keys typed here are no shortcuts; those with Ctrl are, so that a run can be started from a field. */
export function stop(event: React.KeyboardEvent): void {
  if (!(event.ctrlKey || event.metaKey) || /^[acvxz]$/i.test(event.key)) event.stopPropagation();
}

export function TextField({ label, name, value, multiline, placeholder, onChange }: Props) {
  if (multiline) {
    return <textarea className="nowheel nopan" aria-label={name} placeholder={placeholder ?? label} spellCheck={false} value={value} onChange={(event) => onChange(event.target.value)} onKeyDown={stop} />;
  }
  return (
    <label className="line">
      <span>{label}</span>
      <input aria-label={name} placeholder={placeholder} spellCheck={false} value={value} onChange={(event) => onChange(event.target.value)} onKeyDown={stop} />
    </label>
  );
}
