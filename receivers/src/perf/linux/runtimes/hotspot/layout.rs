//! Where HotSpot's structures have what is needed, as it says itself.

use super::tables::{Field, Tables};
use crate::perf::linux::runtimes::memory::{Memory, half, read_word, word};

/// The largest structure that is read at once.
pub(crate) const MAX_STRUCTURE: u64 = 1024;

/// A structure's member that is not described.
pub(crate) type Missing = &'static str;

/// A member of a structure: its offset and its width in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) at: u32,
    pub(crate) width: u8,
}

impl Member {
    /// Its value in the bytes of the structure; 0 beyond their end.
    pub(crate) fn get(self, bytes: &[u8]) -> u64 {
        let value = word_or_less(bytes, self.at);
        if self.width >= 8 { value } else { value & ((1 << (8 * self.width)) - 1) }
    }

    /// The same as a number with a sign.
    pub(crate) fn signed(self, bytes: &[u8]) -> i64 {
        let unused = 64 - 8 * u32::from(self.width.min(8));
        (self.get(bytes) << unused).cast_signed() >> unused
    }
}

/// The word at a place, with zeros for what is beyond the end.
fn word_or_less(bytes: &[u8], at: u32) -> u64 {
    let mut all = [0; 8];
    for (to, from) in all.iter_mut().zip(bytes.get(at as usize..).unwrap_or_default()) {
        *to = *from;
    }
    word(&all, 0)
}

/// Where something is that newer versions keep apart from the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The block has its address.
    Address(Member),
    /// So far from the block.
    Offset(Member),
    /// So far from the address that the block has of what never changes.
    Apart { base: Member, offset: Member },
}

impl Place {
    /// The address, from that of the block and its bytes.
    pub(crate) fn of(self, block: u64, bytes: &[u8]) -> u64 {
        match self {
            Self::Address(member) => member.get(bytes),
            Self::Offset(member) => block.wrapping_add_signed(member.signed(bytes)),
            Self::Apart { base, offset } => {
                base.get(bytes).wrapping_add_signed(offset.signed(bytes))
            }
        }
    }
}

/// Blocks of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    pub(crate) length: u32,
    pub(crate) name: Member,
    pub(crate) size: Member,
    pub(crate) code: Place,
    pub(crate) code_end: Place,
    pub(crate) frame_size: Member,
    pub(crate) frame_complete: Member,
}

/// Compiled methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompiledLayout {
    pub(crate) length: u32,
    pub(crate) method: Member,
    pub(crate) compile_id: Member,
    /// Negative as long as it is being made.
    pub(crate) state: Member,
    pub(crate) deopt: Place,
    /// The handler of frames that called by a method handle, where it is another.
    pub(crate) deopt_other: Option<Place>,
    pub(crate) original_pc: Member,
    pub(crate) pcs: Place,
    pub(crate) pcs_end: Place,
    pub(crate) scopes: Place,
    pub(crate) scopes_end: Place,
    pub(crate) metadata: Place,
}

/// The parts of the heap that code is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeapLayout {
    /// The variable that has the list of parts, and the list.
    pub(crate) heaps: u64,
    pub(crate) list_length: Member,
    pub(crate) list_data: Member,
    pub(crate) low: Member,
    pub(crate) high_boundary: Member,
    pub(crate) segments: Member,
    pub(crate) log2_segment: Member,
    /// The bytes before a block, which say how long it is and whether it is in use.
    pub(crate) header: u64,
    pub(crate) length: Member,
    pub(crate) used: Member,
}

/// Methods, and what they are described by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodLayout {
    pub(crate) const_method: Member,
    pub(crate) const_length: u32,
    pub(crate) constants: Member,
    pub(crate) code_size: Member,
    pub(crate) flags: Member,
    pub(crate) has_lines: u64,
    pub(crate) name_index: Member,
    pub(crate) pool_length: u32,
    pub(crate) pool_entries: Member,
    pub(crate) pool_holder: Member,
    pub(crate) source_index: Member,
    pub(crate) class_name: Member,
    pub(crate) text_length: Member,
    pub(crate) text_body: Member,
}

/// All of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) version: u32,
    pub(crate) block: BlockLayout,
    pub(crate) compiled: CompiledLayout,
    pub(crate) heap: HeapLayout,
    pub(crate) method: MethodLayout,
    /// Where the stub that calls Java returns to.
    pub(crate) call_stub_return: u64,
    /// Zero is not among the bytes of compressed numbers.
    pub(crate) excludes_zero: bool,
}

impl Layout {
    /// Takes what is needed from the tables; what is missing otherwise.
    pub(crate) fn of(tables: &Tables, memory: &mut dyn Memory) -> Result<Self, Missing> {
        let source = Source { tables };
        let mut major = [0; 4];
        let version = source.variable("Abstract_VM_Version._vm_major_version")?;
        let version = if memory.read(version, &mut major) { half(&major, 0) } else { 0 };
        let call_stub = source.variable("StubRoutines._call_stub_return_address")?;
        Ok(Self {
            version,
            block: source.block()?,
            compiled: source.compiled()?,
            heap: source.heap()?,
            method: source.method()?,
            call_stub_return: read_word(memory, call_stub).unwrap_or(0),
            excludes_zero: version >= 20,
        })
    }
}

struct Source<'a> {
    tables: &'a Tables,
}

impl Source<'_> {
    fn field(&self, name: Missing) -> Result<&Field, Missing> {
        self.tables.fields.get(name).ok_or(name)
    }

    fn variable(&self, name: Missing) -> Result<u64, Missing> {
        self.field(name).and_then(|field| if field.is_static { Ok(field.place) } else { Err(name) })
    }

    fn size(&self, name: Missing) -> Result<u32, Missing> {
        let size = self.tables.types.get(name).filter(|size| **size <= MAX_STRUCTURE);
        size.map(|size| *size as u32).ok_or(name)
    }

    fn member(&self, name: Missing) -> Result<Member, Missing> {
        let field = self.field(name)?;
        if field.is_static || field.place >= MAX_STRUCTURE {
            return Err(name);
        }
        let kind = field.kind.as_str();
        let is_pointer = kind.ends_with('*') || kind == "address";
        let size = self.tables.types.get(kind).copied();
        let width = match size.filter(|it| (1..=8).contains(it)) {
            _ if is_pointer => 8,
            _ if kind.ends_with("signed char") || kind == "bool" => 1,
            Some(size) => size,
            None => 8,
        };
        Ok(Member { at: field.place as u32, width: width as u8 })
    }

    /// The first of these that there is.
    fn either(&self, names: [Missing; 2]) -> Result<Member, Missing> {
        names.iter().find_map(|name| self.member(name).ok()).ok_or(names[0])
    }

    /// A member of a structure that is itself a member.
    fn inner(&self, outer: Missing, name: Missing) -> Result<Member, Missing> {
        let (outer, inner) = (self.field(outer)?, self.member(name)?);
        let at = u32::try_from(outer.place).ok().and_then(|it| it.checked_add(inner.at));
        let at = at.filter(|at| u64::from(*at) < MAX_STRUCTURE).ok_or(name)?;
        Ok(Member { at, ..inner })
    }

    fn block(&self) -> Result<BlockLayout, Missing> {
        let place = |address, offset| match self.member(address) {
            Ok(member) => Ok(Place::Address(member)),
            Err(_) => self.member(offset).map(Place::Offset),
        };
        Ok(BlockLayout {
            length: self.size("CodeBlob")?,
            name: self.member("CodeBlob._name")?,
            size: self.member("CodeBlob._size")?,
            code: place("CodeBlob._code_begin", "CodeBlob._code_offset")?,
            code_end: place("CodeBlob._code_end", "CodeBlob._data_offset")?,
            frame_size: self.member("CodeBlob._frame_size")?,
            frame_complete: self.member("CodeBlob._frame_complete_offset")?,
        })
    }

    fn compiled(&self) -> Result<CompiledLayout, Missing> {
        let member = |name| self.member(name);
        let (pcs, pcs_end, scopes, scopes_end) = match member("nmethod._immutable_data") {
            // From 23 on what never changes is elsewhere.
            Ok(base) => {
                let apart = |name| member(name).map(|offset| Place::Apart { base, offset });
                let scopes = apart("nmethod._scopes_data_offset")?;
                let end = apart("nmethod._immutable_data_size")?;
                (apart("nmethod._scopes_pcs_offset")?, scopes, scopes, end)
            }
            Err(_) => {
                let pcs = Place::Offset(member("nmethod._scopes_pcs_offset")?);
                let end = Place::Offset(member("nmethod._dependencies_offset")?);
                let scopes = Place::Address(member("CompiledMethod._scopes_data_begin")?);
                (pcs, end, scopes, pcs)
            }
        };
        let metadata = match member("CodeBlob._mutable_data") {
            Ok(base) => Place::Apart { base, offset: member("CodeBlob._relocation_size")? },
            Err(_) => Place::Offset(member("nmethod._metadata_offset")?),
        };
        let deopt = |address, offset| match member(address) {
            Ok(member) => Ok(Place::Address(member)),
            Err(_) => member(offset).map(Place::Offset),
        };
        Ok(CompiledLayout {
            length: self.size("nmethod")?,
            method: self.either(["nmethod._method", "CompiledMethod._method"])?,
            compile_id: member("nmethod._compile_id")?,
            state: member("nmethod._state")?,
            deopt: deopt("CompiledMethod._deopt_handler_begin", "nmethod._deopt_handler_offset")?,
            deopt_other: deopt(
                "CompiledMethod._deopt_mh_handler_begin",
                "nmethod._deopt_mh_handler_offset",
            )
            .ok(),
            original_pc: member("nmethod._orig_pc_offset")?,
            pcs,
            pcs_end,
            scopes,
            scopes_end,
            metadata,
        })
    }

    fn heap(&self) -> Result<HeapLayout, Missing> {
        let header = *self.tables.types.get("HeapBlock").ok_or("HeapBlock")?;
        if header > MAX_STRUCTURE {
            return Err("HeapBlock");
        }
        Ok(HeapLayout {
            heaps: self.variable("CodeCache._heaps")?,
            list_length: self.either(["GrowableArrayBase._len", "GenericGrowableArray._len"])?,
            list_data: self.member("GrowableArray<int>._data")?,
            low: self.inner("CodeHeap._memory", "VirtualSpace._low")?,
            high_boundary: self.inner("CodeHeap._memory", "VirtualSpace._high_boundary")?,
            segments: self.inner("CodeHeap._segmap", "VirtualSpace._low")?,
            log2_segment: self.member("CodeHeap._log2_segment_size")?,
            header,
            length: self.inner("HeapBlock._header", "HeapBlock::Header._length")?,
            used: self.inner("HeapBlock._header", "HeapBlock::Header._used")?,
        })
    }

    fn method(&self) -> Result<MethodLayout, Missing> {
        let constants = &self.tables.constants;
        let names =
            ["ConstMethodFlags::_misc_has_linenumber_table", "ConstMethod::_has_linenumber_table"];
        let has_lines = names.iter().find_map(|name| constants.get(*name)).ok_or(names[0])?;
        Ok(MethodLayout {
            const_method: self.member("Method._constMethod")?,
            const_length: self.size("ConstMethod")?,
            constants: self.member("ConstMethod._constants")?,
            code_size: self.member("ConstMethod._code_size")?,
            flags: self.either(["ConstMethod._flags._flags", "ConstMethod._flags"])?,
            has_lines: u64::from(*has_lines),
            name_index: self.member("ConstMethod._name_index")?,
            pool_length: self.size("ConstantPool")?,
            pool_entries: self.member("ConstantPool._length")?,
            pool_holder: self.member("ConstantPool._pool_holder")?,
            source_index: self.member("ConstantPool._source_file_name_index")?,
            class_name: self.member("Klass._name")?,
            text_length: self.member("Symbol._length")?,
            text_body: self.member("Symbol._body")?,
        })
    }
}
