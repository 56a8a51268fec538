package $package

import android.content.Context
import com.mindspore.Model
import com.mindspore.config.CpuBindMode
import com.mindspore.config.DeviceType
import com.mindspore.config.MSContext
import com.mindspore.config.ModelType
import java.io.FileInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.abs
import kotlin.math.max

/**
 * $title
 *
$interface
 */
class ${Class}Kt(context: Context, threads: Int = 2) : AutoCloseable {
    private val model = Model()

    init {
        val options = MSContext()
        if (!options.init(threads, CpuBindMode.HIGHER_CPU) ||
            !options.addDeviceInfo(DeviceType.DT_CPU, false)
        ) throw IOException("MindSpore Lite has no CPU context")
        context.assets.openFd(MODEL).use { file ->
            FileInputStream(file.fileDescriptor).use { stream ->
                val bytes = stream.channel.map(
                    FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength
                )
                if (!model.build(bytes, ModelType.MT_MINDIR, options))
                    throw IOException("MindSpore Lite does not load $$MODEL")
            }
        }
    }

    /** States the shapes of the inputs: needed when a size is not the one of the call before. */
    fun resize(shapes: Array<IntArray>) {
        if (!model.resize(model.inputs, shapes)) throw IOException("MindSpore Lite does not take these shapes")
    }

    /** Results, in order, for inputs in order: little-endian elements in direct buffers. */
    fun run(vararg inputs: ByteBuffer): List<ByteBuffer> {
        model.inputs.zip(inputs).forEach { (tensor, data) ->
            if (!tensor.setData(data)) throw IOException("an input does not fit $${tensor.tensorName()}")
        }
        if (!model.predict()) throw IOException("MindSpore Lite does not run $$MODEL")
        return OUTPUTS.map {
            ByteBuffer.wrap(model.getOutputByTensorName(it).byteData).order(ByteOrder.LITTLE_ENDIAN)
        }
    }

    /** Runs the sample that came with the model; its scaled error, an exception when it is too large. */
    fun selfTest(context: Context): Double {
        if (ANY_SIZE) resize(GOLDEN_SHAPES)
        val found = run(*GOLDEN_INPUTS.map { read(context, it) }.toTypedArray())
        var worst = 0.0
        found.forEachIndexed { i, data ->
            worst = max(worst, distance(data, read(context, GOLDEN_OUTPUTS[i]), OUTPUT_DTYPES[i]))
        }
        if (!(worst <= TOLERANCE)) throw IOException("self-test of $$MODEL: scaled error $$worst")
        return worst
    }

    override fun close() = model.free()

    private companion object {
        const val MODEL = "$file"
        val OUTPUTS = listOf($output_names)
        val OUTPUT_DTYPES = listOf($output_dtypes)
        val GOLDEN_INPUTS = listOf($golden_inputs)
        val GOLDEN_OUTPUTS = listOf($golden_outputs)
        val GOLDEN_SHAPES = arrayOf($golden_shapes_kt)
        const val ANY_SIZE = $any_size
        const val TOLERANCE = $tolerance

        fun read(context: Context, name: String): ByteBuffer {
            val bytes = context.assets.open(name).use { it.readBytes() }
            val direct = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.LITTLE_ENDIAN)
            direct.put(bytes).rewind()
            return direct
        }

        fun distance(found: ByteBuffer, wanted: ByteBuffer, dtype: String): Double {
            if (found.remaining() != wanted.remaining()) return Double.POSITIVE_INFINITY
            var gap = 0.0
            var top = 1e-6
            while (wanted.hasRemaining()) {
                val a = next(found, dtype)
                val b = next(wanted, dtype)
                if (a != b) gap = max(gap, abs(a - b))
                top = max(top, abs(b))
            }
            return gap / top
        }

        fun next(data: ByteBuffer, dtype: String): Double = when (dtype) {
            "float32" -> data.float.toDouble()
            "int32" -> data.int.toDouble()
            "int64" -> data.long.toDouble()
            else -> data.get().toDouble()
        }
    }
}
