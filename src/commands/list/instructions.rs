//! The instructions of functions, from the binaries that are here.
//!
//! A binary is read only if it is the one that was profiled: by its build id, where the profile has one.
//! Addresses become offsets in the file and from there those of the file, whatever the profile counts from.

use std::collections::BTreeMap;
use std::fs::File;

use iced_x86::{Decoder, DecoderOptions, Formatter as _, GasFormatter, Instruction};
use object::read::ReadCache;
use object::{
    Architecture, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
};
use profpipe_formats::report::{InstructionCost, PlaceCost};
use profpipe_host::hex;
use profpipe_profile::{Dictionary, MappingIx};

/// The most bytes of one function that are decoded.
const MAX_FUNCTION: u64 = 1 << 20;
/// How much code is shown before and behind what costs something, where no symbol tells the function.
const AROUND: u64 = 64;

/// The binaries of a profile.
pub(super) struct Binaries<'a> {
    dictionary: &'a Dictionary,
}

/// The instructions of a function in one binary.
pub(super) struct Part {
    pub(super) module: String,
    /// Or why there are none.
    pub(super) instructions: Result<Vec<Shown>, String>,
}

/// An instruction, with what it costs.
pub(super) struct Shown {
    /// As the file numbers it.
    pub(super) address: u64,
    pub(super) cost: PlaceCost,
    pub(super) text: String,
}

impl<'a> Binaries<'a> {
    pub(super) fn new(dictionary: &'a Dictionary) -> Self {
        Self { dictionary }
    }

    /// The instructions around those that cost something, by binary.
    pub(super) fn parts(&mut self, costs: &[InstructionCost]) -> Vec<Part> {
        let mut by_mapping: BTreeMap<MappingIx, Vec<&InstructionCost>> = BTreeMap::new();
        for cost in costs {
            by_mapping.entry(cost.mapping).or_default().push(cost);
        }
        by_mapping.into_iter().map(|(mapping, costs)| self.part(mapping, &costs)).collect()
    }

    fn part(&self, mapping: MappingIx, costs: &[&InstructionCost]) -> Part {
        let row = self.dictionary.mappings.get(mapping);
        let module = self.dictionary.strings.get(row.filename).to_owned();
        let wanted = super::build_id(self.dictionary, mapping);
        let offset =
            |address: u64| address.wrapping_sub(row.memory_start).wrapping_add(row.file_offset);
        let costs: BTreeMap<u64, PlaceCost> =
            costs.iter().map(|one| (offset(one.address), one.cost)).collect();
        let instructions = read(&module, wanted, &costs);
        Part { module, instructions }
    }
}

/// Reads the functions that offsets of a file are in.
fn read(
    path: &str,
    build_id: Option<&str>,
    costs: &BTreeMap<u64, PlaceCost>,
) -> Result<Vec<Shown>, String> {
    if !path.starts_with('/') {
        return Err(format!("`{path}` is not a file"));
    }
    let file = File::open(path).map_err(|error| format!("cannot open it: {error}"))?;
    let cache = ReadCache::new(file);
    let binary = object::File::parse(&cache).map_err(|error| format!("cannot read it: {error}"))?;
    let found = binary.build_id().ok().flatten().map(hex);
    if let (Some(wanted), Some(found)) = (build_id, &found)
        && wanted != found
    {
        return Err(format!("it is another build than was profiled: {found}, not {wanted}"));
    }
    if binary.architecture() != Architecture::X86_64 {
        return Err("only code of x86-64 is shown".into());
    }
    let address_of = |offset: u64| {
        binary.segments().find_map(|segment| {
            let (start, length) = segment.file_range();
            let inside = offset.checked_sub(start).filter(|inside| *inside < length)?;
            segment.address().checked_add(inside)
        })
    };
    let costs: BTreeMap<u64, PlaceCost> =
        costs.iter().filter_map(|(offset, cost)| Some((address_of(*offset)?, *cost))).collect();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for address in costs.keys() {
        if ranges.last().is_some_and(|(_, end)| address < end) {
            continue;
        }
        ranges.push(function_at(&binary, *address));
    }
    if ranges.is_empty() {
        return Err("the addresses of the profile are not in it".into());
    }
    let mut shown = Vec::new();
    for (start, end) in ranges {
        let section = binary.sections().find(|section| {
            section.address() <= start && start - section.address() < section.size()
        });
        let length = end.saturating_sub(start).min(MAX_FUNCTION);
        let bytes = section.and_then(|section| section.data_range(start, length).ok().flatten());
        let Some(bytes) = bytes else { continue };
        decode(bytes, start, &costs, &mut shown);
    }
    Ok(shown)
}

/// The function that an address is in, by the symbols, or what is around it.
fn function_at<'d>(binary: &object::File<'d, &'d ReadCache<File>>, address: u64) -> (u64, u64) {
    let symbols = binary.symbols().chain(binary.dynamic_symbols());
    let containing = symbols.filter(|symbol| {
        symbol.kind() == object::SymbolKind::Text
            && symbol.address() <= address
            && address - symbol.address() < symbol.size()
    });
    match containing.max_by_key(|symbol| symbol.address()) {
        Some(symbol) => (symbol.address(), symbol.address().saturating_add(symbol.size())),
        // Decoding that begins in the middle of an instruction finds its way soon.
        None => (address, address.saturating_add(AROUND)),
    }
}

fn decode(bytes: &[u8], start: u64, costs: &BTreeMap<u64, PlaceCost>, shown: &mut Vec<Shown>) {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        let address = instruction.ip();
        // What was called from here lies within the call.
        let mut cost = PlaceCost::default();
        for (_, one) in costs.range(address..instruction.next_ip()) {
            cost.own = cost.own.saturating_add(one.own);
            cost.total = cost.total.saturating_add(one.total);
        }
        shown.push(Shown { address, cost, text });
    }
}
