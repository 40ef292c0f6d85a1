// SPDX-License-Identifier: GPL-2.0
/*
 * Clear what QEMU's emulated SVM leaves in a guest's EXITINTINFO.
 *
 * The field tells whether an exit interrupted the delivery of an event. After a delivery QEMU clears the field's valid bit
 * and leaves its type (do_interrupt_all in target/i386/tcg/seg_helper.c). Since Linux 6.14 KVM looks at the type alone
 * (svm_check_emulate_instruction in arch/x86/kvm/svm/svm.c): if the next exit is an access to a device's memory, KVM
 * stops the guest with an internal error, suberror 3.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include "svm.h"

static int clear_unless_valid(struct kprobe *probe, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (struct kvm_vcpu *)regs_get_kernel_argument(regs, 0);
	struct vmcb_control_area *control = &to_svm(vcpu)->vmcb->control;

	if (!(control->exit_int_info & SVM_EXITINTINFO_VALID))
		control->exit_int_info = 0;
	return 0;
}

static struct kprobe probe = {
	.symbol_name = "svm_check_emulate_instruction",
	.pre_handler = clear_unless_valid,
};

static int __init svm_exit_init(void)
{
	return register_kprobe(&probe);
}

static void __exit svm_exit_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(svm_exit_init);
module_exit(svm_exit_exit);
MODULE_DESCRIPTION("Clear what QEMU's emulated SVM leaves in EXITINTINFO");
MODULE_LICENSE("GPL");
