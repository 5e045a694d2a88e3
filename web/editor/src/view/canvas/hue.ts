/** The hue of a category: packs that come with Anyloom have theirs, others one out of their name. */

const KNOWN: Record<string, number> = { "NExT-GPT": 255, Diffusion: 28, media: 205, control: 158 };

export function hueOf(category: string): number {
  const pack = category.split("/")[0] ?? "";
  if (pack in KNOWN) return KNOWN[pack]!;
  let hash = 7;
  for (const letter of pack) hash = (hash * 33 + letter.charCodeAt(0)) % 360;
  return hash;
}
