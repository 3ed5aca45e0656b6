/** Short common nouns, the written form of the keys and values that tasks hide and of what the essay grammar speaks about. */
export const nouns: readonly string[] = /* @__PURE__ */ Object.freeze(
  /* @__PURE__ */ (
    'apple arch attic axe badge bag ball bank barn basin basket bay beach bead beam bean bear bed bee bell belt bench berry bike bird ' +
    'blade blanket block board boat bolt bone book boot border bottle bowl box branch bread breeze brick bridge broom brush bucket ' +
    'bush butter button cabin cable cake camel camp candle canoe canvas cap card carpet cart castle cat cave cellar chain chair chalk ' +
    'cheese chest church circle cliff clock cloud coat coin comb compass copper corn cottage cotton couch cow crane crate creek crow ' +
    'crown cup curtain dam dance deck deer desk diamond ditch dock dog doll door dove dragon drawer dress drum duck dust eagle ear ' +
    'egg elbow engine fabric falcon farm feather fence fern ferry field finger fire fish flag flame floor flour flower flute foam ' +
    'forest fork fossil fountain fox frame frog fruit garden garlic gate ghost giant glass globe glove goat gold goose grain grape ' +
    'grass gravel guitar hammer harbor harp hat hawk hay hedge helmet hen hill hinge honey hook horn horse hotel house ice ink ' +
    'island ivory jacket jar jewel jug kettle key kite kitten knee knife knot ladder lake lamp lantern lawn leaf leather lemon letter ' +
    'library lily lime lion lizard lock log loom map maple marble market mask meadow medal melon mill mirror mitten moon moss moth ' +
    'mountain mouse mud mug mule museum nail napkin neck needle nest net nut oak oar oat ocean olive onion orange orchard otter oven ' +
    'owl ox paddle page pail paint palace pan paper parcel park parrot path peach pear pebble pen pencil pepper piano pier pig pigeon ' +
    'pillow pine pipe plank plate plow plum pocket pond pony porch pot potato'
  ).split(' '),
);

/** Short common adjectives. */
export const adjectives: readonly string[] = /* @__PURE__ */ Object.freeze(
  /* @__PURE__ */ (
    'able amber ancient annual bare basic bent big bitter black bland blank blind blond blue blunt bold brave brief bright brisk ' +
    'broad broken brown busy calm careful casual central cheap chief civil clean clear clever close cold common complex cool crisp ' +
    'cruel curly curved daily damp daring dark dear deep dense dim direct distant double dry dull dusty eager early easy elegant ' +
    'empty equal even exact extra faint fair false famous fancy fast fat fierce final fine firm fit flat fond foreign fragile ' +
    'free fresh friendly full funny gentle glad golden good gray great green grim happy hard harsh heavy hidden high ' +
    'hollow honest hot huge humble icy ideal idle inner joint keen kind large last late lazy light little lively local ' +
    'long loose loud low lucky mad main major mild minor modern modest narrow neat new nice noble noisy odd ' +
    'old open outer pale patient perfect pink plain polite poor pretty prime proud pure purple quick quiet rapid rare raw ready real ' +
    'red regular rich rigid ripe rough round royal rude sad safe salty sandy secret sharp shiny short shy silent silver simple single ' +
    'slim slow small smart smooth soft solid sour spare special square steady steep stiff still strange strict strong sudden sunny ' +
    'sweet swift tall tame tender thick thin tidy tight tiny tired tough true twin usual vague vast vivid warm wet white whole wide ' +
    'wild wise wooden yellow young'
  ).split(' '),
);
